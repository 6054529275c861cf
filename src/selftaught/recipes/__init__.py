"""The paper's tables and figures as data: protocol, variants and printed numbers, one YAML file each."""
