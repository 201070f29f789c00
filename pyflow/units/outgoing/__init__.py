"""What goes out: link sets as spreadsheets, arrays, columns of NWB files and tables of a DataJoint pipeline."""
