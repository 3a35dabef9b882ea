# needs: tar gzip find xargs md5sum
for i in $(seq 50); do mkdir -p d/$((i % 7)); echo "$i" > d/$((i % 7))/"$i"; done
ln -s 1/1 d/link
tar czf a.tgz --sort=name --mtime=@0 --owner=0 --group=0 d && mkdir to && tar xzf a.tgz -C to && diff -r d to/d
find to -type f -name '*[05]' -print0 | sort -z | xargs -0 -n 3 cat | md5sum
find to -type f -newer a.tgz | wc -l
find d -type l -printf '%l %f\n'
find d -exec sh -c 'exit 1' \; -quit
echo $?
