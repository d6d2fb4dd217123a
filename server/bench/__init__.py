"""The measurements of `bindserve bench server` and `start-up`. The server does not use this
package.
"""
