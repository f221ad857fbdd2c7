"""Pages and figures: one theme, one page, no models."""
