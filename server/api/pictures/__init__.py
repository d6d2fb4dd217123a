"""Pictures as answers: drawn by the decoder, in the side model `pictures`."""
