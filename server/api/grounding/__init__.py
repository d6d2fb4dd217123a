"""Find the nouns of an answer, or a client's queries, in pictures, by the side model `detector`."""
