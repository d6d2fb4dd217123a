"""Rows to train and evaluate calls of tools, dialogues and Chinese. Written for this project."""
