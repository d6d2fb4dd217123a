"""Training data: data files, stored embeddings of pictures, and the order of examples."""
