"""Rules on requests that fail, and on where requests went."""
