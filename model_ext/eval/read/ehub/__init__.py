"""Readers of LVLM-eHub's folders: one function per data set, from the data root to items."""
