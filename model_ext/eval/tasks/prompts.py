"""LVLM-eHub's prompts."""

OCR = "what is written in the image?"
CAPTION = "what is described in the image?"
CAPTION_ALTERNATIVE = "Generate caption of this image:"  # the paper names no caption prompt
FUNSD = 'what is "{question}" information in the image?'
CHOICE = "Question: {question}\nOptions: {choices}\n"  # choices are joined by one space
VSR = "Question: Is the following caption right? {question}\nOptions: No Yes\n"
SROIE = {
    "company": "what is the name of the company that issued this invoice?",
    "date": "when was this invoice issued?",
    "address": "where was this invoice issued?",
    "total": "what is the total amount of this invoice?",
}
