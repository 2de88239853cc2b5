"""What a replica of any model is made of: batches, caches, deadlines kept, metrics, revisions."""
