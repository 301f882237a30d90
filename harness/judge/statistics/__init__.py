"""What the rules count with: blocks, bounds, looks, exact tests. It knows no stage and no gate."""
