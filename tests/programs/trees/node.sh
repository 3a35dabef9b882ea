# needs: node
node -e 'console.log([3, 1, 2].sort().join(), process.argv.length, require("os").type())'
node -e 'require("child_process").exec("echo $0; exit 5", (error, out) => console.log(out.trim(), error.code))'
node -e 'new (require("worker_threads").Worker)("console.log(6 * 7)", { eval: true })'
node -e 'require("fs").readdir(".", (error, names) => console.log(error, names)); process.exitCode = 8'
