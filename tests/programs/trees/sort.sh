# needs: sort shuf md5sum
# Temporary files, and threads.
mkdir temporary
shuf -i 1-200000 --random-source=<(yes) | sort -n -S 100k -T temporary --parallel=4 | md5sum
ls -A temporary
