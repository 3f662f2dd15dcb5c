"""Whether the mesh is what the file says, judged by reading again and by a second evaluator that shares no code."""
