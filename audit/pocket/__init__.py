"""The pocket world, its tasks, its shipped models, and how they are trained."""
