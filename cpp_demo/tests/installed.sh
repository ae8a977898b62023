#!/bin/sh
# installed.sh BUILD SOURCE VECTORS: the README's program, built against what `cmake --install` puts somewhere, and run.
set -eu
build=$1 source=$2 vectors=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" > "$work/log"
block() { awk -v kind="$1" '$0 == "```" kind {inside = 1; next} $0 == "```" {inside = 0} inside' "$source/README.md"; }
block cpp | sed "s#mini.int8.onnx#$vectors/int8.onnx#" > "$work/main.cpp"
{
  echo 'cmake_minimum_required(VERSION 3.16)'
  echo 'project(yours LANGUAGES CXX)'
  echo 'add_executable(your_program main.cpp)'
  block cmake
} > "$work/CMakeLists.txt"
env -u OpenVINO_DIR cmake -S "$work" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" > "$work/log" || { cat "$work/log"; exit 1; }
cmake --build "$work/build" >> "$work/log" || { cat "$work/log"; exit 1; }
answer=$("$work/build/your_program")
echo "$answer"
echo "$answer" | grep -Eq '^(angry|disgust|fear|happy|sad|surprise|neutral) 0\.[0-9]+$'
lines=$(block cpp | wc -l)
[ "$lines" -le 20 ] || { echo "the twenty lines of the README are $lines"; exit 1; }
