"""The transcription of sounds: options, pieces of a long sound, and the formats of a transcript."""
