"""Training of encoders (`bindserve train encoders`): align other modalities with pictures."""
