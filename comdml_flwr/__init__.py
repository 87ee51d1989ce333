"""ComDML for Flower: workload balancing for training without a server.

The method: S. M. Sajjadi Mohammadabadi, L. Yang, F. Yan, J. Zhang, "Communication-Efficient Training
Workload Balancing for Decentralized Multi-Agent Learning", IEEE ICDCS 2024, pp. 680-691, arXiv 2405.00839.
Importing this package opens nothing and loads neither torch nor flwr.
"""

__version__ = "0.1.0"
