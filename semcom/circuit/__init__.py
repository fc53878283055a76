"""A cortical circuit that becomes familiar with pictures: filters, dynamics, plasticity, measures."""
