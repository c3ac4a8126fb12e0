"""metrics.json, figures, pages."""
