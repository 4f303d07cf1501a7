"""How the bundled weights are made, and how to train on one's own data."""
