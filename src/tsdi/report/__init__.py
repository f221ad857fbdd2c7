"""HTML reports and figures in one theme, without models."""
