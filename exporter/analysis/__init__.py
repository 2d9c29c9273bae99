"""Pure arithmetic: from records and server statistics to the figures that are published. No IO, no clock."""
