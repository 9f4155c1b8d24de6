"""torchmetrics classes that torchmetrics lacks and two or more papers need."""
