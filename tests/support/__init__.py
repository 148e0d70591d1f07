"""What several tests need: builders of messages, files and networks."""
