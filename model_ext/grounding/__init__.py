"""Find the nouns of an answer, and find things in pictures by a text or by an embedding."""
