"""What comes in: claims about identities, from spreadsheets, tables, clusterings and matching programs."""
