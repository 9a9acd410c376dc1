"""Training: arguments, data on the way to the model, the Trainer, its recipes; pretraining of the
encoders on synthetic clips."""
