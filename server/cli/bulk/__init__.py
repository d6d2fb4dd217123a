"""`bindserve embed` for folders and lists: embed many files into one output file."""
