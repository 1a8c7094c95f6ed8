"""What comes from Alpaca: the source, the merge, corporate actions, their store, and run reports."""
