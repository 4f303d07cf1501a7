"""Reading checkpoints without running anything in them; weights.py is the door."""
