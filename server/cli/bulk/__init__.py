"""`bindserve embed` for folders and lists: many files, one output file, resumable."""
