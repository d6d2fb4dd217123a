"""The recipe of the demonstration model: what it is made of, and how to make it again."""
