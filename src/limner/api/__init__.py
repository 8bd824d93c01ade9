"""What `import limner` gives: functions for every stage, a run's folder, adapters in a diffusers pipeline."""
