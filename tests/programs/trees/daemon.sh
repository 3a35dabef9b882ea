# needs: python3 setsid
# One that forks twice, and is nobody's child any more; and one that the shell knows nothing of.
cat > daemon.py << END
import os, time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.1)
        said = os.popen("echo child").read()
        with open("new", "w") as file:
            file.write(f"{os.getsid(0) != os.getpid()} {os.getppid() != os.getsid(0)} {said}")
        os.rename("new", "done")
    os._exit(0)
os.wait()
END
python3 daemon.py
echo $?
until [ -s done ]; do sleep 0.05; done
cat done
setsid -f sh -c 'sleep 0.2; echo late > late' < /dev/null
until [ -s late ]; do sleep 0.05; done
cat late
