package util // want folder
