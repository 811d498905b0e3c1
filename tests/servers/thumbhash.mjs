// Compares a ThumbHash with that of the package of its author: node thumbhash.mjs WIDTH HEIGHT PIXELS HASH
// Prints the largest difference of a value of the two placeholders, from 0 to 255.
import { readFileSync } from 'node:fs';
import { rgbaToThumbHash, thumbHashToRGBA } from 'thumbhash';

const [width, height, file, given] = process.argv.slice(2);
const own = thumbHashToRGBA(rgbaToThumbHash(Number(width), Number(height), readFileSync(file)));
const other = thumbHashToRGBA(Buffer.from(given, 'base64'));
const sameSize = own.w === other.w && own.h === other.h;
console.log(sameSize ? Math.max(...own.rgba.map((value, n) => Math.abs(value - other.rgba[n]))) : 256);
