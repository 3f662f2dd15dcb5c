"""What else lives on the hub: facts for a judgement that is made elsewhere."""
