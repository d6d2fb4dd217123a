"""The table of tasks: the paper's 27 data sets and MME's 14 subtasks."""
