"""What one answer costs: joules by model, GPU and load, and grams by grid zone and hour."""
