"""Years of made-up sweeps through the product's own `judge()`: false alarms, silence, how soon a change is found."""
