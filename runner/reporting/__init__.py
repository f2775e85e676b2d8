"""From records to text and back: cards, published records, checks, reports."""
