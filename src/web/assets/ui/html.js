// @ts-check
// The one place that names the library.
// @ts-ignore it comes without types
import * as library from '../vendor/htm-preact.js'
/** @type {any} */
const all = library
export const { html, render, useState, useEffect, useLayoutEffect, useRef, useMemo, Component } = all
