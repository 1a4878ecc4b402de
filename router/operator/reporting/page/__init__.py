"""The page for the public: one HTML file a model, English and Korean, which needs nothing else."""
