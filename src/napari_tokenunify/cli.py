"""placeholder while the house is built"""


def main() -> int:
    return 0
