"""Rows for training and evaluating tool calls, dialogues and Chinese. All were written for this
project.
"""
