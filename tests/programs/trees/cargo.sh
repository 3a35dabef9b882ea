# needs: cargo rustc
export CARGO_TERM_COLOR=never
mkdir src
cat > Cargo.toml << END
[package]
name = "hello"
version = "0.1.0"
edition = "2021"
END
cat > src/main.rs << 'END'
use std::process::Command;
fn main() {
    println!("{}", std::thread::spawn(|| 6 * 7).join().unwrap());
    let out = Command::new("echo").arg("child").output().unwrap();
    print!("{}", String::from_utf8(out.stdout).unwrap());
    std::process::exit(std::env::args().count() as i32);
}
END
cargo build -q --offline && ./target/debug/hello
echo $?
cargo run -q --offline -- a b
