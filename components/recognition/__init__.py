"""The components of the recognition pipeline: pictures, recogniser, judgement, push."""
