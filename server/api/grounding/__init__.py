"""Find an answer's nouns, or a client's queries, in pictures with the side model `detector`."""
