"""A prior over the codes of a trained model, trained afterwards."""
