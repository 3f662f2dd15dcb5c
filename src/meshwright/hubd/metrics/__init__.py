"""The exporter: its settings, one moment of the hub, the page that is made of it, and who may read it."""
