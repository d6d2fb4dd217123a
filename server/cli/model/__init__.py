"""The commands that write and check model folders: `bindserve convert` and `bindserve doctor`."""
