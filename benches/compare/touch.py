"""Changes a file so many times within so many seconds, each time by another comment."""

import os
import sys
import time

path, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
text = open(path, encoding="utf-8").read()
for number in range(count):
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(f"{text}# {number}\n")
    os.replace(f"{path}.new", path)
    time.sleep(seconds / count)
